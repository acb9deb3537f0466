from experiments.results import refresh_readme

refresh_readme()
