"""From a source to chunks: where files come from, which are read, where they are cut."""
