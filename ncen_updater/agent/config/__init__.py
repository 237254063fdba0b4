"""The agent's configuration: one TOML file, validated whole before anything starts."""
