"""From codes to faces and from photos to codes."""
