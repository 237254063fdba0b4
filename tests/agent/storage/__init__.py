"""Tests of agent.storage."""
