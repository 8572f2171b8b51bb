"""Clients of experiment trackers, one file per tracker."""
