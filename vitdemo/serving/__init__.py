"""The engine behind an address: the model on other machines than the page."""
