"""Scores over HTTP: the same job file, model, rules and function as a run, asked for a few rows at a time.

`handler` answers a request and knows no server; `flask_app` and `gunicorn_server` are the fronts, `aws_lambda` and
`cloud_function` those of functions, for which `packaging` makes packages. What is served is
made ready (`preparing`) in a process of its own, which also watches whether a model's alias moves (`watching`).
"""
