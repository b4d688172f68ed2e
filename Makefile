.DEFAULT_GOAL := help
.PHONY: help install run format check lint types layers migrations deployment test nightly coverage

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install:  ## Install everything that development needs
	uv sync --extra dev

run:  ## Start the service
	uv run python -m pyapi

format:  ## Write the code as black and ruff want it
	uv run black .
	uv run ruff check --fix .

check: lint types layers migrations deployment  ## Everything that CI checks before the tests

lint:
	uv run black --check --quiet .
	uv run ruff check .

types:
	uv run mypy

layers:
	uv run lint-imports

migrations:  ## Compare migrations and models, beside tables as Airflow has them
	uv run python -m tests.architecture.check_migrations

deployment:  ## Check the Dockerfiles and the compose file
	uv run python -m tests.architecture.check_deployment

test:  ## Run the tests
	uv run pytest

nightly:  ## Run the tests that take too long for every day
	uv run pytest -m nightly

coverage:  ## Run the tests and measure the branches of pyapi they take
	uv run pytest --cov=pyapi
