package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
)

func main() { os.Exit(Main(os.Args[1:])) }

// Main is the program: 0 after a clean stop, 1 after a failure, 2 if the
// configuration is not good.
func Main(args []string) int {
	if slices.Contains(args, "--version") {
		fmt.Println(version())
		return 0
	}
	if len(args) > 0 && args[0] == "cleanup" {
		return cleanupMain(args[1:])
	}
	cfg, err := load(args, os.Getenv)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overland-agent:", err)
		return 2
	}
	log := newLog(cfg)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg, log); err != nil {
		log.WithError(err).Error("the agent ends")
		return 1
	}
	log.Info("the agent was told to stop; the kernel stays as it is")
	return 0
}

func newLog(cfg Config) *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(os.Stderr)
	if cfg.LogFormat == "json" {
		logger.SetFormatter(&logrus.JSONFormatter{})
	} else {
		logger.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	}
	// Validate has accepted it.
	level, _ := logrus.ParseLevel(cfg.LogLevel)
	logger.SetLevel(level)
	// client-go's own lines: what matters of them is in the clusters' states.
	klog.LogToStderr(false)
	klog.SetOutput(logger.WriterLevel(logrus.DebugLevel))
	return logrus.NewEntry(logger)
}

// version is what the Go tools have noted in this program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
