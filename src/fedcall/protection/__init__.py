"""What hides one hospital's update until it is part of a sum: masks, seeds sealed to helpers, and their envelope."""
