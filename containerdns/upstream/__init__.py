"""The forwarder: queries other servers for names that are not ours."""
