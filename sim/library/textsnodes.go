package library

// textsOfNodes are about the nodes themselves.
func textsOfNodes() []named {
	return []named{
		{"ssh-users-and-a-dead-node", `
title  SSH users of a dead node get a reset, and the others notice nothing
about  Whoever sits on the dead node is told so by a reset at the latest when he next says something 3.5 s after.
link   https://github.com/golang/go/issues/19338
users  ssh
duration 30s
kill   n2@8s
expect healthy
off    without failover
`}, {"ssh-users-and-an-upgrade", `
title  SSH users notice nothing of an upgrade, node by node
about  The control process is replaced; the worker keeps the sessions.
link   https://www.netdata.cloud/guides/haproxy/haproxy-soft-stop-draining-stuck/
users  ssh
duration 40s
restart n1@8s+1s
restart n2@14s+1s
restart n3@20s+1s
restart n4@26s+1s
expect healthy
off    without handover
`}, {"drain-before-maintenance", `
title  A drained node keeps its sessions and gets nobody new
link   https://docs.ansible.com/ansible/2.7/modules/haproxy_module.html
users  ssh
duration 30s
drain  n3@8s
expect healthy
off    without handover
`}, {"direct-path-outlives-onevoice", `
title  On the direct path onevoice dies, moves, drains, restarts, and no session ends
about  The kernel has the sessions, and the programs at the interface are pinned: they go on while nobody tells them anything, and accept nothing new when the lease is over.
about  The second that is killed drains then, and its sessions go on too.
link   https://docs.ebpf.io/linux/concepts/pinning
users  ssh
path   direct
clients 60
duration 40s
kill   n2@8s+1s
weight n1=20@13s
drain  n3@18s
restart n4@23s+1s
kill   n3@28s+1s
expect healthy
off    without handover
off    without failover
`}, {"strays-beside-a-drainer", `
title  A node dies, and its users in buckets that another drains are reset, too
about  The drainer lists the sessions that it has, so that the new owner can reset every other user of the bucket and none of these. Without lists it would have to be silent to both.
link   https://www.rfc-editor.org/rfc/rfc9293#section-3.5.2
users  ssh
path   direct
clients 400
every  6s
duration 30s
drain  n3@6s
reboot n2@14s
expect healthy
off    without flow-lists
`}, {"management-network-split", `
title  The management network splits, and the clients' LAN does not
about  Leases are proved on the clients' own LAN, so that nobody stops or answers twice. One who does not follow the log is put out.
link   https://etcd.io/docs/v3.4/op-guide/failures/
duration 30s
partition net n1,n2,n3|n4@8s+8s
expect healthy
off    partition n1,n2|n3,n4@10s
`}, {"flapping-service", `
title  A service that comes and goes does not take its node along each time
about  A check needs several answers in a row, and one that has failed is held down for a while.
link   https://www.haproxy.com/documentation/hapee/2-0r1/service-reliability/health-checking/active-checks/change-threshold/
duration 70s
every  2s
service-flaps n2@6s+56s
expect healthy
off    without check-patience
`}, {"two-nodes-one-decides", `
title  Two nodes and no witness: when the one that decides dies, nobody answers
about  Two that do not hear each other cannot know which is gone. To let both go on would be two answers.
link   https://kb.linbit.com/two-node-pacemaker-cluster-startup-behavior
nodes  2
two-nodes preferred
kill   n1@8s
expect no-majority, never-served
off    two-nodes witness
`}, {"two-nodes-and-a-witness", `
title  Two nodes and a witness: either may die
link   https://kb.linbit.com/two-node-pacemaker-cluster-startup-behavior
nodes  2
two-nodes witness
kill   n1@8s
expect healthy
off    two-nodes preferred
`}, {"two-nodes-do-not-hear-each-other", `
title  Two nodes are parted, both alive: one goes on, and nobody is answered twice
about  This is where two masters come from. The witness keeps one of them.
link   https://kb.linbit.com/two-node-pacemaker-cluster-startup-behavior
nodes  2
two-nodes witness
duration 25s
cut    n1-n2@8s
expect node-out
off    not cut n1-n2@8s
`}, {"full-disk", `
title  A node whose disk is full does not follow the others, and is put out
about  It would never learn what is given to it, and nobody would answer for that.
link   https://www.netdata.cloud/guides/kubernetes/kubernetes-etcd-disk-fsync/
duration 25s
break  n2@8s
drain  n4@10s+5s
expect node-out
off    not break n2@8s
`}, {"slow-disk", `
title  A disk that stands still for a second costs no session
link   https://www.netdata.cloud/guides/kubernetes/kubernetes-etcd-disk-fsync/
users  ssh
duration 25s
fsync  n2@8s+1s
kill   n3@8500ms
expect healthy
off    without failover
`}, {"frozen-virtual-machine", `
title  A virtual machine is frozen, and does not know it afterwards
about  What no lease can guard against: for up to its length, 250 ms, the node accepts what another accepts by now.
about  Drain a node before its machine is moved or suspended.
link   https://knowledge.broadcom.com/external/article/432796/virtual-machine-stun-or-brief-hang-when.html
freeze n2@8s+2s
expect two-owners
off    not freeze n2@8s+2s
`}, {"most-nodes-die", `
title  Three of five nodes die: those that are left answer nothing new
about  They are no majority, and cannot know that the others are not alive somewhere else.
link   https://etcd.io/docs/v3.4/op-guide/failures/
nodes  5
kill   n1@8s
kill   n2@8s
kill   n3@8s
expect no-majority, never-served
off    not kill n3@8s
`},
	}
}
