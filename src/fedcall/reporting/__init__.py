"""The privacy-budget report and the evaluation of calls, as HTML and JSON."""
