package doctor

import "slices"

// Examination is one thing that is looked at.
type Examination struct {
	Name string
	// Reads says what it looks at.
	Reads string
	// Codes are those of all that it may find.
	Codes []string
	// needs is without which it finds nothing.
	needs need
	look  func(*Facts) []Finding
}

// need is what an examination cannot do without.
type need int

const (
	// needsFile: a file that can be used.
	needsFile need = 1 << iota
	// needsDaemon: a daemon that answers.
	needsDaemon
	// needsHost: a look at the host's kernel.
	needsHost
	// needsOthers: what other nodes tell.
	needsOthers
)

// Examinations are all there are, in the order in which they are told: what keeps the
// daemon from its work first.
func Examinations() []Examination {
	return []Examination{
		{"file", "the configuration file", []string{"file"}, 0, file},
		{"daemon", "whether the daemon answers on its socket, and its status", []string{"not-running", "status"}, needsFile, running},
		{"rights", "what whoever runs the doctor may look at; what the kernel lets the daemon do", []string{"rights", "filter", "guard"}, needsFile, rights},
		{"interface", "the interfaces with VIPs: there, up, with a carrier and an address", []string{"interface", "interface-changed"}, needsFile | needsHost, interfaces},
		{"VIP on an interface", "the addresses of this host", []string{"vip-on-interface"}, needsFile, addressHeld},
		{"shared MAC", "the MACs of the file and of the interface", []string{"protocol-mac", "own-mac"}, needsFile, protocolMAC},
		{"state directory", "100 synced writes to the state directory (their p99), and the room there", []string{"state-directory", "disk-full", "disk-nearly-full", "slow-disk"}, needsFile | needsHost, stateDirectory},
		{"frames heard", "heartbeats to the shared MAC, and frames that each other node was asked to send to it", []string{"shared-mac-not-heard", "shared-mac-not-heard-there"}, needsDaemon, notHeard},
		{"storm control, port security", "how many of the frames that each other node was asked to send have arrived", []string{"frames-lost"}, needsDaemon | needsOthers, framesLost},
		{"MTU", "the interfaces' MTU on all nodes, and frames of that length that each other node was asked to send", []string{"mtu-unequal", "mtu-path"}, needsDaemon | needsOthers, mtu},
		{"gateway believes", "who asks for a VIP again and again though it is answered", []string{"answers-refused"}, needsDaemon, refusedAnswers},
		{"senders", "frames that come from the shared MAC, and ARP that claims a VIP", []string{"shared-mac-sends", "stranger"}, needsDaemon, sourceSeen},
		{"bridge", "whether the interface is on a bridge of this host that snoops", []string{"bridge-snoops"}, needsFile, bridgeSnoops},
		{"querier", "who asks for the members of the nodes' groups (mac_mode igmp)", []string{"no-querier"}, needsDaemon, noQuerier},
		{"host keys", "the keys that the SSH servers of all nodes show", []string{"host-keys-unequal"}, needsDaemon | needsOthers, hostKeys},
		{"files", "a digest of each table of all nodes' files, but for [node] and [admin]", []string{"files-unequal"}, needsDaemon | needsOthers, filesEqual},
		{"versions", "the versions of all nodes", []string{"versions-unequal", "tells-nothing"}, needsDaemon | needsOthers, versions},
		{"clocks", "whether the clock is synchronised, and how it goes beside the other nodes'", []string{"clock-unsynchronised", "clock-apart", "clock-rate"}, needsFile, clocks},
		{"sysctls", "settings of the kernel on all nodes", []string{"sysctls-unequal"}, needsDaemon | needsOthers, sysctls},
		{"forwarding", "ip_forward and send_redirects, where the host's own stack sees the VIPs' frames", []string{"forwards"}, needsHost, forwards},
		{"rules", "the rules of routing, rp_filter, and which way leads to the other nodes", []string{"rules-gone", "rule-before-ours", "rp-filter"}, needsHost, rules},
		{"own host", "services that programs of this host do not reach at the VIP", []string{"own-host"}, needsDaemon, ownHost},
		{"packet filters", "fail2ban, and chains for what comes in; of path = \"direct\", whether clients come in", []string{"kept-out", "bans", "firewall"}, needsHost, packetFilters},
		{"offloads", "what the interface does for the kernel (ethtool -k)", []string{"lro", "offload-off"}, needsHost, offloads},
		{"open files", "how many files a worker may have open: a flow takes one", []string{"few-files"}, needsDaemon, openFiles},
		{"file's warnings", "what `onevoice check` warns of", []string{"file-warning"}, needsFile, fileWarns},
	}
}

// Fine are the examinations that were made and found nothing, and unmade those that
// could not be made.
func Fine(f *Facts, found []Finding) (fine, unmade []string) {
	have := needsFile | needsDaemon | needsHost | needsOthers
	if f.File != "" {
		have = 0
	}
	if f.NotRunning != "" {
		have &^= needsDaemon
	}
	if f.Host == nil {
		have &^= needsHost
	}
	if !f.Asked {
		have &^= needsOthers
	}
	for _, e := range Examinations() {
		switch {
		case slices.ContainsFunc(found, func(x Finding) bool { return slices.Contains(e.Codes, x.Code) }):
		case e.needs&^have != 0:
			unmade = append(unmade, e.Name)
		default:
			fine = append(fine, e.Name)
		}
	}
	return fine, unmade
}
