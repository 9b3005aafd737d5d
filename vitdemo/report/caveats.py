"""What a map can and cannot say, in plain words: in every report, and at the end of the tour."""

# Keys of the catalogue.
CAN = ("caveat.can.use", "caveat.can.matter", "caveat.can.mistakes", "caveat.can.compare")
CANNOT = ("caveat.cannot.why", "caveat.cannot.right", "caveat.cannot.finer",
          "caveat.cannot.function_words", "caveat.cannot.methods", "caveat.cannot.evidence",
          "caveat.cannot.others")
