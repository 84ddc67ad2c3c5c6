"""Object stores to test against: real ones where there are any, and a proxy that spoils them."""
