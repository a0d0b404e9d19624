"""Engines that a device builds itself: requests to it over ssh or by hand, and what comes back."""
