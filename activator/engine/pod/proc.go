package pod

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clockTick is USER_HZ: the unit of times in /proc/PID/stat, which the kernel
// fixes at 100 for user space on every architecture that Go supports.
const clockTick = 100

// stat is what the engine reads of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	state     byte
	group     int
	cpuTicks  uint64 // utime + stime
	startTime uint64 // ticks after boot
	rssPages  int64
}

// parseStat reads the text of /proc/PID/stat. The command's name, in
// parentheses, may itself hold spaces and parentheses: fields count from the
// last one.
func parseStat(text []byte) (stat, error) {
	i := bytes.LastIndexByte(text, ')')
	if i < 0 {
		return stat{}, fmt.Errorf("no command name in a process's stat")
	}
	f := strings.Fields(string(text[i+1:])) // f[0] is field 3 of the manual page
	if len(f) < 22 || len(f[0]) != 1 {
		return stat{}, fmt.Errorf("a process's stat has only %d fields", len(f)+2)
	}
	var s stat
	s.state = f[0][0]
	num := func(field int) uint64 {
		v, err := strconv.ParseInt(f[field-3], 10, 64)
		if err != nil || v < 0 {
			return 0
		}
		return uint64(v)
	}
	s.group = int(num(5))
	s.cpuTicks = num(14) + num(15)
	s.startTime = num(22)
	s.rssPages = int64(num(24))
	if s.startTime == 0 {
		return stat{}, fmt.Errorf("a process's stat has no start time")
	}
	return s, nil
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// StartTime returns when a process started, in ticks after boot: together with
// its pid it names a process once and for all until the machine restarts.
func StartTime(pid int) (uint64, error) {
	s, err := readStat(pid)
	return s.startTime, err
}

// members lists the live processes of a process group that were started at
// since or later, in ticks after boot.
func members(group int, since uint64) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if err != nil || s.state == 'Z' || s.group != group || s.startTime < since {
			continue
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// Usage returns a process's resident memory and the processor time that it has
// used so far. Both are zero when it has gone.
func Usage(pid int) (rssBytes int64, cpuSeconds float64) {
	s, err := readStat(pid)
	if err != nil {
		return 0, 0
	}
	return s.rssPages * int64(os.Getpagesize()), float64(s.cpuTicks) / clockTick
}

// bootID names this run of the kernel: a pid and start time mean nothing in
// another one.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
