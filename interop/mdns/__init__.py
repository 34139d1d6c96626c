"""Two machines on one local network, in namespaces: ours and another implementation's find each other by mDNS."""
