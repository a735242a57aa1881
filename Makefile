# The targets that people and .ci/run use. Nothing but Go is needed for build, test and dev.
TOOLS ?= $(or $(TIDEMARK_TOOLS),$(HOME)/.cache/tidemark-tools)
GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(TOOLS)/golangci-$(GOLANGCI_VERSION)/golangci-lint

.PHONY: build test race check lint dev bench roundtrip ci

build:
	go build -o tidemark ./cmd/tidemark

test:
	go test ./...

# Packages with goroutines, under the race detector; and the log with its slabs checked for misuse.
race:
	go test -race ./wal/... ./metadata/... ./objectstore/... ./tiering/... ./broker/...

check:
	go test -tags walcheck ./wal/... ./broker/...

lint: $(GOLANGCI)
	$(GOLANGCI) run ./...

$(GOLANGCI):
	GOBIN=$(dir $@) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

dev:
	go run ./cmd/tidemark dev

bench:
	go test -run '^$$' -bench . -benchmem ./wal/... ./broker/... ./tiering/...

roundtrip:
	go run ./loadtest/roundtrip

ci:
	bash .ci/run
