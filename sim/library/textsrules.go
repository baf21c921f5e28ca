package library

// textsOfRules are about who answers.
func textsOfRules() []named {
	return []named{
		{"ping-is-answered-once", `
title  Every ping is answered once, and not by each node
about  A rule that shares out TCP and forgets ICMP lets every node answer, and ping tells DUP!
about  The VIP's own rows decide who answers echo requests.
link   https://git.netfilter.org/iptables/plain/extensions/libxt_cluster.man?h=v1.4.3.2&id=790845385fb84ce8e79a96e91fc6c4f7df60713d
link   http://www.gnu.org/software/inetutils/manual/html_node/Duplicate-and-damaged-packets.html
users  ping
expect healthy
off    without icmp-owner
`}, {"arp-is-answered-once", `
title  Every ARP request is answered once
about  All answers would say the same; one is enough, and the owner of the asker's bucket gives it.
link   https://book.huihoo.com/iptables-tutorial/x8906.htm
users  ping
expect healthy
off    without arp-owner
`}, {"a-syn-is-answered-by-one", `
title  A SYN-ACK that was lost is not repeated once another node has answered
about  A TCP repeats its SYN-ACK for a minute. n2 loses its clients' way for a moment, then its share, and has both again: by then others have answered the same SYNs, and serve who sent them.
link   https://www.rfc-editor.org/rfc/rfc6298#section-5
clients 60
every  500ms
duration 25s
unheard n2@8s+2500ms
unreached n2@8800ms+1700ms
drain  n2@8800ms+3s
expect healthy
off    without last-syn
`}, {"a-syn-is-answered-by-one-kernel", `
title  On the direct path, too, a lost SYN-ACK is not repeated once another node has answered
about  The kernel cannot be told to forget a half-open connection. The program on the way out keeps back what answers a SYN from before the node had its share back.
link   https://docs.kernel.org/networking/ip-sysctl.html
path   direct
clients 60
every  500ms
duration 25s
unheard n2@8s+2500ms
unreached n2@8800ms+1700ms
drain  n2@8800ms+3s
expect healthy
off    without last-syn
`}, {"one-in-four-never-served", `
title  With nobody to take over, a dead node's clients are never served
about  CLUSTERIP has no heartbeat of its own: a quarter of the clients stays with the dead one of four nodes.
about  Here the others take its buckets.
link   https://book.huihoo.com/iptables-tutorial/x8906.htm
clients 60
kill   n2@8s
expect healthy
off    without failover
`}, {"a-new-node", `
title  A fifth node moves one client in five, and CLUSTERIP's hash half of them
about  The kernel's hashes scale one hash by the number of nodes, which moves half of all clients at any number.
about  Here only what the new node needs is moved, and running sessions stay where they are.
link   https://git.netfilter.org/iptables/plain/extensions/libxt_cluster.man?h=v1.4.3.2&id=790845385fb84ce8e79a96e91fc6c4f7df60713d
late   1
clients 120
users  ssh
every  2s
duration 36s
start  n5@10s
expect healthy
off    without least-moves
`}, {"many-users-behind-one-address", `
title  A thousand users behind one address are one client
about  Whoever shares an address is hashed as one, unless ports are hashed too.
link   https://www.potaroo.net/ietf/idref/rfc6269/index.html
clients 110
nat    100
expect unbalanced
off    affinity source-ip-port
`}, {"users-behind-one-address-by-port", `
title  With ports in the hash, users behind one address are shared out
about  Connections of one user may then reach different nodes.
link   https://www.potaroo.net/ietf/idref/rfc6269/index.html
clients 110
nat    100
affinity source-ip-port
expect healthy
off    affinity source-ip
`},
	}
}
