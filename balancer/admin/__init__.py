"""The admin API: reads memory, changes the configuration through the store, documents itself."""
