package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"

	"aisle.dev/aisle/internal/prediction"
)

// peerSource is the peer's program and what it needs, by digest.
const peerSource = "hack/bench/peers/fastapi"

// fastAPI drives Aisle's classifier and FastAPI with ONNX Runtime in turns,
// with the same requests on the same model packages, after their answers were
// compared.
func fastAPI(ctx context.Context, b *bench) ([]row, error) {
	venv, err := peerPython(ctx, b)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, kind := range []struct{ name, goal string }{{"title", "≥ 4"}, {"photo", "≥ 1.2"}} {
		r, err := fastAPIOf(ctx, b, venv, kind.name, kind.goal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func fastAPIOf(ctx context.Context, b *bench, venv, name, goal string) ([]row, error) {
	const clients = 32
	dir, err := filepath.Abs(filepath.Join("models", name))
	if err != nil {
		return nil, err
	}
	work, err := b.traffic(name == "photo")
	if err != nil {
		return nil, err
	}
	peer, err := startServer(ctx, []string{"MODEL=" + dir, "PATH=" + os.Getenv("PATH")}, func(port string) []string {
		return []string{filepath.Join(venv, "bin/python"), "-m", "uvicorn", "app:app", "--app-dir", peerSource,
			"--host", "127.0.0.1", "--port", port, "--workers", "2", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--timeout-keep-alive", "600", "--log-level", "warning"}
	})
	if err != nil {
		return nil, err
	}
	rows, err := driven(ctx, dir, clients, func(p *pod, ours *wire) ([]row, error) {
		theirs, err := dial(ctx, peer.address, clients)
		if err != nil {
			return nil, err
		}
		defer theirs.close()
		mine, his := work.requests(p.address), work.requests(peer.address)
		same, err := compared(ours, theirs, mine, his)
		if err != nil {
			return nil, err
		}
		var rates, tails [2]sample
		for i := range max(5, b.rounds) {
			for k, side := range []struct {
				*wire
				requests [][]byte
			}{{ours, mine}, {theirs, his}} {
				if i == 0 {
					if _, err := side.closed(ctx, side.requests, turn); err != nil {
						return nil, err
					}
				}
				l, err := side.closed(ctx, side.requests, turn)
				if err != nil {
					return nil, err
				}
				rates[k], tails[k] = append(rates[k], l.rate), append(tails[k], l.latencies.quantile(0.95))
			}
			fmt.Fprintf(b.log, "\rfastapi, %s: %d of %d", name, i+1, max(5, b.rounds))
		}
		fmt.Fprintln(b.log)
		return []row{
			{fmt.Sprintf("%s, %d clients, %s, products/s", name, clients, work.what), rates[0].String(), ""},
			{"  FastAPI + onnxruntime, 2 workers, products/s", rates[1].String(), ""},
			{"  times as many", rates[0].over(rates[1]).String(), goal},
			{"  p95, ms: Aisle; FastAPI. Answers compared", fmt.Sprintf("%.3g; %.3g. %s", tails[0].median(), tails[1].median(), same), ""},
		}, nil
	})
	return rows, errors.Join(err, peer.stop())
}

// compared is an error unless both sides answer alike. A picture's decoders
// differ by a few levels, so that of a hundred pictures a few may fall to the
// other side of a near tie.
func compared(ours, theirs *wire, mine, his [][]byte) (string, error) {
	const n, most = 100, 3
	differ := 0
	for i := range min(n, len(mine)) {
		a, err := answered(ours, mine[i])
		if err != nil {
			return "", err
		}
		b, err := answered(theirs, his[i])
		if err != nil {
			return "", fmt.Errorf("the peer: %w", err)
		}
		if a.ID != b.ID || a.Top().Label != b.Top().Label || math.Abs(a.Top().Probability-b.Top().Probability) > 0.02 {
			if differ++; differ > most {
				return "", fmt.Errorf("the peer answers otherwise: for product %s %v, and Aisle %v", a.ID, b.Top(), a.Top())
			}
		}
	}
	return fmt.Sprintf("%d of %d alike", n-differ, n), nil
}

func answered(w *wire, request []byte) (prediction.Result, error) {
	var r prediction.Result
	body, err := w.exchange(0, request)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(body, &r)
}

// peerPython returns the peer's Python environment, which it makes on first use.
func peerPython(ctx context.Context, b *bench) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	venv := filepath.Join(cache, "aisle", "peers", "fastapi")
	python := filepath.Join(venv, "bin/python")
	for _, step := range [][]string{
		{"python3", "-m", "venv", venv},
		{python, "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", filepath.Join(peerSource, "requirements.txt")},
	} {
		cmd := exec.CommandContext(ctx, step[0], step[1:]...)
		cmd.Stderr, cmd.Stdout = b.log, b.log
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("make the peer's Python environment: %w", err)
		}
	}
	return venv, nil
}
