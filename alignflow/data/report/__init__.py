"""The stage `report`: what a run did, as JSON and as one HTML page."""
