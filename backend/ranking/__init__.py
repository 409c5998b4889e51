"""How the two lists of stage one become one order."""
