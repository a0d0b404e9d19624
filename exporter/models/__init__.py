"""Networks that come with coopexport."""
