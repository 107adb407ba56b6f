package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"aisle.dev/aisle/internal/classify"
	"aisle.dev/aisle/internal/onnx"
)

// config is the environment, read once. Zero numbers mean classify's
// defaults.
type config struct {
	host, port, model, digest, device, library, cache string
	gpu                                               onnx.GPU

	fetch      bool
	fetchAllow string

	queue   int
	maxBody int64
	timeout time.Duration
	level   slog.Level
}

func configure(getenv func(string) string) (config, error) {
	c := config{
		host: getenv("HOST"), port: getenv("PORT"), model: getenv("MODEL"), digest: getenv("MODEL_DIGEST"), device: cmp.Or(getenv("DEVICE"), onnx.CPU), cache: getenv("CACHE_DIR"),
		timeout: classify.DefaultTimeout,
	}
	if c.model == "" {
		return c, errors.New("MODEL is not set: it names a model package, such as models/title")
	}
	if c.device != onnx.CPU && c.device != onnx.CUDA && c.device != onnx.Auto {
		return c, fmt.Errorf("DEVICE %q: want cpu, cuda or auto", c.device)
	}
	if s := getenv("CUDA_DEVICE"); s != "" {
		n, err := strconv.ParseUint(s, 10, 8)
		if err != nil {
			return c, fmt.Errorf("CUDA_DEVICE %q: want a number, as CUDA counts the GPUs that it sees, from 0", s)
		}
		c.gpu.ID = int(n)
	}
	if s := getenv("CUDA_MEMORY"); s != "" {
		q, err := strconv.ParseInt(s, 10, 64)
		if err != nil || q < 1 {
			return c, fmt.Errorf("CUDA_MEMORY %q: want a number of bytes, 1 or more", s)
		}
		c.gpu.Memory = q
	}
	switch v := getenv("FETCH"); v {
	case "", "on":
		c.fetch, c.fetchAllow = true, getenv("FETCH_ALLOW")
	case "off":
	default:
		return c, fmt.Errorf("FETCH %q: want on or off", v)
	}
	exe, err := os.Executable()
	if err != nil {
		return c, err
	}
	if c.library, err = onnx.Library(getenv("ONNXRUNTIME_LIB"), exe); err != nil {
		return c, err
	}
	if s := getenv("QUEUE"); s != "" {
		if c.queue, err = strconv.Atoi(s); err != nil || c.queue < 1 || c.queue > 1<<16 {
			return c, fmt.Errorf("QUEUE %q: want a number of requests, 1 to 65536", s)
		}
	}
	if s := getenv("MAX_BODY"); s != "" {
		if c.maxBody, err = strconv.ParseInt(s, 10, 64); err != nil || c.maxBody < 1 {
			return c, fmt.Errorf("MAX_BODY %q: want a number of bytes, 1 or more", s)
		}
	}
	if s := getenv("TIMEOUT"); s != "" {
		if c.timeout, err = time.ParseDuration(s); err != nil || c.timeout <= 0 {
			return c, fmt.Errorf("TIMEOUT %q: want a duration above 0, such as 20s", s)
		}
	}
	if s := getenv("LOG_LEVEL"); s != "" {
		if err := c.level.UnmarshalText([]byte(s)); err != nil {
			return c, fmt.Errorf("LOG_LEVEL %q: want debug, info, warn or error", s)
		}
	}
	return c, nil
}
