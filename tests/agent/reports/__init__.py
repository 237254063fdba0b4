"""Tests of agent.reports."""
