"""One name space over many hosts, on etcd."""
