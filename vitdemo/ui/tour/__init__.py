"""The tab Tour: an example, step by step."""
