"""Pure types that every service shares: names, addresses, versions, documents."""
