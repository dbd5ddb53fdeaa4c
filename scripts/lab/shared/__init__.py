"""What every other package of lab may import; it imports none of them."""
