"""Tests of workers.demo."""
