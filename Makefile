# `make` alone tells what there is.
GO ?= go
BINARY = onevoice
FUZZTIME ?= 30s
# Without a bound, one input of little worth is made smaller for a minute.
FUZZ = $(GO) test -run '^$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 20x -fuzz

.PHONY: help
help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## the program, ./onevoice
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BINARY) ./cmd/onevoice

# go vet is a part of lint, which has all of its analyses.
TEST = $(GO) test -count=1 -vet=off -timeout 20m

.PHONY: test
test: test-parts test-cmd ## all tests; as root more of them run

.PHONY: test-parts
test-parts: ## those of all packages but cmd/
	$(TEST) $$($(GO) list ./... | grep -v /cmd/)

.PHONY: test-cmd
test-cmd: ## those of cmd/, which start clusters
	$(TEST) ./cmd/...

.PHONY: docs
docs: ## the pages that are made from the program: configuration, commands, metrics, API
	$(GO) test -count=1 ./config -run '^TestConfigurationPage$$' -update
	$(GO) test -count=1 ./admin/web -run '^Test(Metrics|API)Page$$' -update
	$(GO) test -count=1 ./cmd/onevoice -run '^TestHelpIsOnItsPage$$' -update

.PHONY: docs-play
docs-play: ## the tutorial, or PAGE=…, followed with PACKAGE=dist/….deb, as root
	$(GO) test -count=1 -timeout 1h ./cmd/onevoice -run '$(if $(PAGE),^TestPage$$,^TestTutorial$$)' -v -args $(if $(PAGE),-page $(abspath $(PAGE))) $(if $(PACKAGE),-package $(abspath $(PACKAGE)))

.PHONY: picture
picture: build ## docs/page.png anew, from a lab and Chromium, as root
	./docs/picture.sh ./$(BINARY)

.PHONY: demo
demo: build ## a cluster on this machine, on a switch and on a hub
	./$(BINARY) lab --lan hub
	./$(BINARY) lab --lan switch

.PHONY: lint
lint: ## gofmt, vet, staticcheck, go.mod
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "not formatted: run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

# Without that, each process that a test starts would sleep for a second at its end.
RACE = GORACE=atexit_sleep_ms=50 $(TEST) -race -short

.PHONY: race
race: race-parts race-cmd ## the tests under the race detector, without the longest

.PHONY: race-parts
# internal/house reads the sources, in one goroutine.
race-parts: ## those of all packages but cmd/
	$(RACE) $$($(GO) list ./... | grep -v -e /cmd/ -e /internal/house)

.PHONY: race-cmd
race-cmd: ## those of cmd/
	$(RACE) ./cmd/...

.PHONY: cross
cross: ## whether it builds for arm64
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build -o /dev/null ./cmd/onevoice

.PHONY: fuzz-built
# Code that is fuzzed is built for that anew, with all that it imports.
fuzz-built: ## what .ci/run fuzzes is only built
	.ci/fuzz build

.PHONY: fuzz
fuzz: ## the fuzz targets, FUZZTIME=30s each
	$(FUZZ) '^FuzzDecode$$' ./node
	$(FUZZ) '^FuzzHandleFrame$$' ./node
	$(FUZZ) '^FuzzHandleIPv6$$' ./node
	$(FUZZ) '^FuzzNode$$' ./node
	$(FUZZ) '^FuzzCookies$$' ./node
	$(FUZZ) '^FuzzIPv6Chain$$' ./node
	$(FUZZ) '^FuzzTCPOptions$$' ./node
	$(FUZZ) '^FuzzARP$$' ./responder
	$(FUZZ) '^FuzzNDP$$' ./responder
	$(FUZZ) '^FuzzEcho$$' ./responder
	$(FUZZ) '^FuzzReset$$' ./responder
	$(FUZZ) '^FuzzMembership$$' ./responder
	$(FUZZ) '^FuzzAdd$$' ./reassembly
	$(FUZZ) '^FuzzParse$$' ./config
	$(FUZZ) '^FuzzParsePrefixes$$' ./config
	$(FUZZ) '^FuzzParse$$' ./migrate
	$(FUZZ) '^FuzzHeartbeat$$' ./cluster
	$(FUZZ) '^FuzzDatagram$$' ./cluster
	$(FUZZ) '^FuzzCommand$$' ./cluster
	$(FUZZ) '^FuzzTable$$' ./cluster
	$(FUZZ) '^FuzzSaved$$' ./cluster
	$(FUZZ) '^FuzzDecodeLists$$' ./control
	$(FUZZ) '^FuzzOpen$$' ./internal/sealed
	$(FUZZ) '^FuzzFragment$$' ./internal/sealed
	$(FUZZ) '^FuzzParse$$' ./internal/journal
	$(FUZZ) '^FuzzReader$$' ./internal/pcap
	$(FUZZ) '^FuzzParseWeight$$' ./health
	$(FUZZ) '^FuzzBanner$$' ./health
	$(FUZZ) '^FuzzEchoReply$$' ./health
	$(FUZZ) '^FuzzHeader$$' ./proxy
	$(FUZZ) '^FuzzRequest$$' ./admin
	$(FUZZ) '^FuzzParsePlan$$' ./sim
	$(FUZZ) '^FuzzParseLink$$' ./sim
	$(FUZZ) '^FuzzMembership$$' ./sim
	$(FUZZ) '^FuzzJudge$$' ./lab
	$(FUZZ) '^FuzzParse$$' ./sim/library

.PHONY: bench
bench: build ## speed beside the kernel, HAProxy and nginx; ARGS="--quick"
	./$(BINARY) bench $(ARGS)

.PHONY: bench-deps
bench-deps: ## install what it is measured beside and with (Debian, as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		haproxy nginx libnginx-mod-stream iperf3 wrk dnsperf iptables
	@echo "Debian starts haproxy and nginx; systemctl disable --now haproxy nginx stops them."

.PHONY: bench-micro
bench-micro: ## the micro-benchmarks, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./hashing ./responder ./node ./link/ingress

.PHONY: acceptance
acceptance: ## a cluster judged by others' programs beside a plain server, as root; ONLY="nmap|wrk", ARGS=-acceptance.path=direct
	$(GO) test -count=1 -timeout 2h ./cmd/onevoice -run '^TestAcceptance$$/$(ONLY)' -v -args -acceptance $(ARGS)

.PHONY: acceptance-deps
acceptance-deps: ## install those programs (Debian, as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		arp-scan arping curl dnsmasq-base dnsperf fping hping3 iproute2 ipv6toolkit make ndisc6 nftables nghttp2-client nginx nmap \
		openssh-server openssh-sftp-server openssh-tests python3-scapy rsync slowhttptest sshfs tcpdump tcptrace testssl.sh thc-ipv6 tshark wrk

.PHONY: verdicts
verdicts: ## 10 million frames judged by the kernel and by the node, as root
	$(GO) test -count=1 -timeout 1h ./node -run '^TestKernelFilter' -v -args -kernel-frames $(or $(N),10000000) -wire-frames $(or $(W),100000)

.PHONY: rulings
rulings: ## 10 million frames judged by the programs of the direct path and by its rule, as root
	$(GO) test -count=1 -timeout 2h ./node -run '^TestProgramsSteerByTheRule$$' -v -args -steered-frames $(or $(N),10000000)

.PHONY: udp-flows
udp-flows: ## N=100000 UDP flows at a time, as root; each needs an open file
	$(GO) test -count=1 -timeout 1h ./cmd/onevoice -run '^TestManyUDPFlows$$' -v -args -udp-flows $(or $(N),100000)

.PHONY: slow-clients
slow-clients: ## N=10000 slow clients of a real daemon at a time, as root; each needs two open files here
	$(GO) test -count=1 -timeout 1h ./cmd/onevoice -run '^TestSlowClients$$' -v -args -slow-clients $(or $(N),10000)

.PHONY: crowd
crowd: ## 16 nodes and 2,000 clients, simulated for two minutes; CROWD=32x10000 is more
	GOMAXPROCS=1 $(GO) test -count=1 -timeout 2h ./sim/scenario -run '^$$' -bench '^BenchmarkCrowd$$' -benchtime 1x -args -crowd $(or $(CROWD),16x2000)

.PHONY: seeds
seeds: ## N=1000 more seeds of chaos, counted in sim/scenario/testdata/seeds.md
	$(GO) test -count=1 -timeout 24h ./sim/scenario -run '^TestMoreSeeds$$' -v -args -more $(or $(N),100) -processes $(or $(P),2)

.PHONY: netstack
netstack: ## N=100 seeds of chaos with netstack and whole TCP clients
	$(GO) test -count=1 -timeout 24h ./sim/scenario -run '^TestWholeChaos$$' -v -args -whole $(or $(N),100)

.PHONY: sim-scale
sim-scale: ## how long a minute of 4 nodes and 200 whole TCP clients takes
	$(GO) test -count=1 ./sim/scenario -run '^TestWholeScale$$' -v -args -scale

.PHONY: tcp-choice
tcp-choice: ## TCP's settings tried on simulated paths, N=5 seeds each
	GOMAXPROCS=1 $(GO) test -count=1 -timeout 2h ./stack -run '^TestTCPChoice$$' -v -args -choice $(or $(N),5)

.PHONY: mutants
mutants: ## planted faults: the tests, and the simulator, have to see each
	$(GO) test -count=1 -timeout 4h ./internal/house -run '^TestPlantedFaults$$' -v -args -mutants
	$(GO) test -count=1 -timeout 4h ./sim/scenario -run '^TestMutants$$' -v -args -mutants -update

.PHONY: figures
figures: ## how long failover, moves and starts take, in the simulator
	$(GO) test -count=1 -timeout 2h ./sim/scenario -run '^TestFigure' -v -args -figures $(or $(N),300)

.PHONY: scaling
scaling: ## docs/scaling.svg, from simulations of 1 to 32 nodes
	$(GO) test -count=1 ./sim/library -run '^TestScaling$$' -v -args -scaling $(CURDIR)/docs/scaling.svg

.PHONY: torture
torture: build ## nodes killed, stalled and cut off for an hour, under live flows; ARGS=--path=direct
	./$(BINARY) lab torture $(ARGS)

.PHONY: rolling
rolling: build ## a rolling restart: no login may fail
	./$(BINARY) lab rolling

.PHONY: upgrades
upgrades: build ## each node upgraded in turn; no flow may end
	./$(BINARY) lab upgrade $(ARGS)

.PHONY: moves
moves: build ## a bucket moved 100 times under 100 flows each, on both paths (as root)
	./$(BINARY) lab moves
	./$(BINARY) lab moves --path=direct

.PHONY: kills
kills: ## 50 kills of daemons of the direct path under sessions (as root)
	go test ./cmd/onevoice -run TestKillsUnderSessions -v -count 1 -args -direct-kills 50

.PHONY: soak
soak: build ## all loads and faults by chance, for ten minutes; ARGS="--for 8h"
	./$(BINARY) lab soak $(ARGS)

# What is made of one commit by one Go is the same bytes wherever it is made: paths,
# times and build identities stay out of it. A version that nobody has named is Go's own
# name for the commit, so that later ones are newer.
ARCHES = amd64 arm64
VERSION ?= $(or $(shell git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null | sed 's/^v//'),0.0.0-$(shell TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --abbrev=12 --format=%cd-%h))
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
NFPM = $(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
LICENSES = $(GO) run github.com/google/go-licenses@v1.6.0
CYCLONEDX = $(GO) tool -modfile=packaging/sbom/go.mod cyclonedx-gomod
TAR = tar --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner --mode=u+rwX,go+rX,go-w

.PHONY: dist
dist: ## static binaries for amd64 and arm64, manual pages, completions, licences, in dist/
	rm -rf dist
	for arch in $(ARCHES); do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -buildvcs=auto -trimpath -ldflags '-s -w -buildid=' -o dist/linux-$$arch/$(BINARY) ./cmd/onevoice || exit 1; \
	done
	mkdir -p dist/share/man1
	$(GO) run ./cmd/onevoice man dist/share/man1
	$(GO) run ./cmd/onevoice completion bash > dist/share/onevoice.bash
	$(GO) run ./cmd/onevoice completion zsh > dist/share/_onevoice
	$(GO) run ./cmd/onevoice completion fish > dist/share/onevoice.fish
	$(LICENSES) save ./cmd/onevoice --ignore onevoice --force --save_path dist/licenses 2>dist/licenses.log || { cat dist/licenses.log; exit 1; }
	# libcap leaves the choice between BSD-3-Clause and the GPL, of which we take the first;
	# the tool takes the second, and its sources with it.
	find dist/licenses -type f ! -iname 'licen[cs]e*' ! -iname 'notice*' ! -iname 'copying*' ! -iname 'copyright*' -delete
	mkdir -p dist/licenses/go && cp "$$($(GO) env GOROOT)/LICENSE" dist/licenses/go/
	chmod -R u+rwX,go+rX,go-w dist/licenses

.PHONY: package
package: dist ## .deb and .rpm for both, in dist/
	for arch in $(ARCHES); do for kind in deb rpm; do \
		ARCH=$$arch VERSION=$(VERSION) $(NFPM) package -f packaging/nfpm.yaml -p $$kind -t dist/ || exit 1; \
	done; done

.PHONY: release
release: package ## and archives, the list of parts, licences and checksums
	for arch in $(ARCHES); do \
		$(TAR) -C dist/linux-$$arch -cf - $(BINARY) | gzip -n > dist/onevoice-$(VERSION)-linux-$$arch.tar.gz && \
		packaging/sbom/write.sh '$(CYCLONEDX)' $(VERSION) dist/linux-$$arch/$(BINARY) dist/onevoice-$(VERSION)-linux-$$arch.cdx.json || exit 1; \
	done
	$(TAR) -C dist -cf - licenses | gzip -n > dist/onevoice-$(VERSION)-licenses.tar.gz
	cd dist && sha256sum *.deb *.rpm *.tar.gz *.json > SHA256SUMS

.PHONY: release-test
release-test: ## make release twice, of two clones at different places, and compare
	./packaging/reproduce.sh

.PHONY: package-test
package-test: package ## install, start, upgrade and remove both, in a copy of this system (as root)
	./packaging/test.sh dist/onevoice_*_$$($(GO) env GOARCH).deb
	./packaging/test.sh dist/onevoice-*.$$(uname -m).rpm

.PHONY: ocf-test
ocf-test: build ## the agent for Pacemaker, with ocf-tester and after crashes (as root)
	./packaging/ocf/test.sh $(BINARY)

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BINARY) dist
