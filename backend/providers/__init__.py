"""Models behind HTTP: who serves them, how they are called, and what may be called."""
