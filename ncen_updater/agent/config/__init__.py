"""The agent's configuration: one TOML file, validated completely before anything starts."""
