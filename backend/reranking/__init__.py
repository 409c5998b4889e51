"""Stage two: a cross-encoder reads the query with each candidate."""
