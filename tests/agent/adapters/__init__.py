"""Tests of agent.adapters."""
