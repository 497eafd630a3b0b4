package netprobe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// Exit statuses of the program.
const (
	exitOK = 0
	// ExitFailed: an expectation was not met, or the program could not work.
	ExitFailed = 1
	// ExitUsage: the command line is wrong; nothing was sent.
	ExitUsage = 2
)

// runError is a failure that is not the command line's.
type runError struct{ err error }

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// ExitCode gives the exit status for an error that Command's execution returned.
func ExitCode(err error) int {
	var run *runError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &run):
		return ExitFailed
	}
	return ExitUsage
}

// Main runs the program with the given arguments, its own name left out, and
// returns the exit status.
func Main(args []string) int {
	cmd := Command()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	if err != nil {
		fmt.Fprintf(os.Stderr, "netprobe: %v\n", err)
	}
	return ExitCode(err)
}

// Command is the program as a cobra command. It prints no errors itself;
// ExitCode gives the status for the one that executing it returns.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "netprobe",
		Short:         "Serve and ask TCP, UDP, SCTP and ICMP, and say who saw whom",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(*cobra.Command, []string) error { return errors.New("want serve, probe or flow") },
	}
	cmd.AddCommand(serveCommand(), probeCommand(), flowCommand())
	return cmd
}

func serveCommand() *cobra.Command {
	var cfg ServeConfig
	var tcp, udp, sctp, http, flow []uint
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer every request with what was seen of it, until SIGTERM",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range []struct {
				from []uint
				to   *[]uint16
			}{{tcp, &cfg.TCP}, {udp, &cfg.UDP}, {sctp, &cfg.SCTP}, {http, &cfg.HTTP}, {flow, &cfg.Flow}} {
				for _, port := range p.from {
					if port < 1 || port > 65535 {
						return fmt.Errorf("port %d is not from 1 to 65535", port)
					}
					*p.to = append(*p.to, uint16(port))
				}
			}
			if len(tcp)+len(udp)+len(sctp)+len(http)+len(flow) == 0 {
				return errors.New("nothing to serve: want --tcp, --udp, --sctp, --http or --flow")
			}
			if cfg.Name == "" {
				name, err := os.Hostname()
				if err != nil {
					return &runError{fmt.Errorf("read hostname: %w", err)}
				}
				cfg.Name = name
			}
			return serve(cmd.Context(), cfg, cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.UintSliceVar(&tcp, "tcp", nil, "TCP ports: one JSON line for each line")
	flags.UintSliceVar(&udp, "udp", nil, "UDP ports: one JSON line for each datagram")
	flags.UintSliceVar(&sctp, "sctp", nil, "SCTP ports: INIT-ACK for each INIT (needs root)")
	flags.UintSliceVar(&http, "http", nil, "HTTP ports: /healthz, and the JSON line at /")
	flags.UintSliceVar(&flow, "flow", nil, "ports of long flows, TCP and UDP: see the command flow")
	flags.StringVar(&cfg.Name, "name", "", "this server's name in its answers (default: the host's)")
	return cmd
}

func serve(ctx context.Context, cfg ServeConfig, stderr io.Writer) error {
	// Before the first socket: a signal must never find the default action.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	logger := logrus.New()
	logger.SetOutput(stderr)
	server, err := Listen(cfg, logger.WithField("program", "netprobe"))
	if err != nil {
		return &runError{err}
	}
	if err := server.Run(ctx); err != nil {
		return &runError{err}
	}
	return nil
}

func probeCommand() *cobra.Command {
	var opts Options
	var source, expect string
	cmd := &cobra.Command{
		Use:   "probe TARGET...",
		Short: "Ask targets and print one JSON line for each, in their order",
		Long: `Ask targets and print one JSON line for each, in their order.

A target is tcp://HOST:PORT, udp://HOST:PORT, sctp://HOST:PORT or icmp://HOST;
"-" reads more of them from standard input, one a line. Options of a target
follow a "?": family=4|6, size=BYTES (not sctp), hold=DURATION (tcp, udp: keep
the connection that long and ask again).`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOptions(&opts, source, expect); err != nil {
				return err
			}
			targets, err := readTargets(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			results, err := Probe(ctx, targets, opts)
			if err != nil {
				return &runError{fmt.Errorf("probe: %w", err)}
			}
			return report(cmd.OutOrStdout(), results, expect)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&opts.Timeout, "timeout", time.Second, "time for a request and its answer")
	flags.IntVar(&opts.Retries, "retries", 0, "further attempts of a failed probe")
	flags.IntVar(&opts.Parallel, "parallel", 32, "probes at once")
	flags.StringVar(&source, "source", "", "address to send from")
	flags.StringVar(&expect, "expect", "", "all or none: exit with 1 unless all, or no, targets answer")
	return cmd
}

func checkOptions(opts *Options, source, expect string) error {
	if opts.Timeout <= 0 || opts.Parallel < 1 || opts.Retries < 0 {
		return errors.New("--timeout and --parallel must be above 0, --retries not below")
	}
	if source != "" {
		addr, err := netip.ParseAddr(source)
		if err != nil {
			return fmt.Errorf("--source: %w", err)
		}
		opts.Source = addr.Unmap()
	}
	switch expect {
	case "", "all", "none":
		return nil
	}
	return fmt.Errorf("--expect %q is not all or none", expect)
}

// readTargets parses the arguments; "-" stands for the lines of stdin.
func readTargets(args []string, stdin io.Reader) ([]Target, error) {
	var targets []Target
	add := func(raw string) error {
		t, err := ParseTarget(raw)
		if err == nil {
			targets = append(targets, t)
		}
		return err
	}
	for _, arg := range args {
		if arg != "-" {
			if err := add(arg); err != nil {
				return nil, err
			}
			continue
		}
		lines := bufio.NewScanner(stdin)
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" {
				if err := add(line); err != nil {
					return nil, err
				}
			}
		}
		if err := lines.Err(); err != nil {
			return nil, &runError{fmt.Errorf("read targets from standard input: %w", err)}
		}
	}
	return targets, nil
}

// report prints the results and compares them with what is expected.
func report(out io.Writer, results []Result, expect string) error {
	encoder, answered := json.NewEncoder(out), 0
	encoder.SetEscapeHTML(false) // targets have "&" in them
	for _, r := range results {
		if r.OK {
			answered++
		}
		if err := encoder.Encode(r); err != nil {
			return &runError{fmt.Errorf("print result of %s: %w", r.Target, err)}
		}
	}
	if expect == "all" && answered != len(results) || expect == "none" && answered != 0 {
		return &runError{fmt.Errorf("%d of %d targets answered, expected %s", answered, len(results), expect)}
	}
	return nil
}
