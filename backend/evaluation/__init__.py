"""How good the rankings are: labelled sets, measures, the systems compared, and the report."""
