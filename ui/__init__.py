"""The page. Gradio only: it shows what `backend` answers, and computes nothing of it."""
