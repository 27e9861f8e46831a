"""What releases cost: from events to epsilon."""
