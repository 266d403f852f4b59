"""Everything that touches the kernel: netlink, nftables, sysctls, namespaces."""
