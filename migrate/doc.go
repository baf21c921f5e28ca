// Package migrate reads what other systems that share an address say of themselves,
// and writes it as a file of ours.
//
// It reads what `iptables-save` and `ip6tables-save` print of CLUSTERIP, xt_cluster and
// rules by the low bits of an address; what `nft list ruleset` prints of jhash; and
// Pacemaker's IPaddr2 as `cibadmin --query`, `crm configure show` and `pcs resource
// config` print it. Whatever of this is about sharing and cannot be carried over is
// told with its line. It opens nothing: text goes in and comes out.
package migrate
