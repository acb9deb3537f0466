"""A face model, reconstructed faces and finished runs in the browser."""
