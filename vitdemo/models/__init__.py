"""The native model: vision encoder, text encoder, fusion, decoder and heads."""
