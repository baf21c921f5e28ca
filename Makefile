# `make` alone tells what there is.
GO ?= go
BINARY = onevoice
FUZZTIME ?= 30s

.PHONY: help
help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## the program, ./onevoice
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BINARY) ./cmd/onevoice

.PHONY: test
test: ## all tests; as root more of them run
	$(GO) test -count=1 ./...

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

.PHONY: race
race: ## all tests under the race detector
	$(GO) test -count=1 -race ./...

.PHONY: fuzz
fuzz: ## the fuzz targets, FUZZTIME=30s each
	$(GO) test -run '^$$' -fuzz '^FuzzDecode$$' -fuzztime $(FUZZTIME) ./node
	$(GO) test -run '^$$' -fuzz '^FuzzHandleFrame$$' -fuzztime $(FUZZTIME) ./node
	$(GO) test -run '^$$' -fuzz '^FuzzARP$$' -fuzztime $(FUZZTIME) ./responder
	$(GO) test -run '^$$' -fuzz '^FuzzEcho$$' -fuzztime $(FUZZTIME) ./responder
	$(GO) test -run '^$$' -fuzz '^FuzzReset$$' -fuzztime $(FUZZTIME) ./responder
	$(GO) test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime $(FUZZTIME) ./config

.PHONY: bench
bench: ## the micro-benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./hashing ./responder ./node

.PHONY: seeds
seeds: ## N=1000 more seeds of chaos, counted in sim/scenario/testdata/seeds.md
	$(GO) test -count=1 -timeout 24h ./sim/scenario -run '^TestMoreSeeds$$' -v -args -more $(or $(N),100) -processes $(or $(P),2)

.PHONY: mutants
mutants: ## planted faults: the simulator has to see each
	$(GO) test -count=1 -timeout 4h ./sim/scenario -run '^TestMutants$$' -v -args -mutants -update

.PHONY: figures
figures: ## how long failover, moves and starts take, in the simulator
	$(GO) test -count=1 -timeout 2h ./sim/scenario -run '^TestFigure' -v -args -figures $(or $(N),300)

.PHONY: soak
soak: build ## ten minutes of logins; nothing may be left behind
	./$(BINARY) lab soak --for 10m

.PHONY: clean
clean: ## remove what was built
	rm -f $(BINARY)
