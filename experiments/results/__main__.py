from experiments.results import refresh_pages

refresh_pages()
