package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal in the /dev of the calling thread's mount
// namespace and returns the descriptors of both its sides: the one that the
// runtime keeps, which does not block, and the one that is a program's.
func openTerminal() (ours, theirs int, err error) {
	ours, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	if theirs, err = openPeer(ours); err != nil {
		return -1, -1, errors.Join(err, unix.Close(ours))
	}
	return ours, theirs, nil
}

func openPeer(ours int) (int, error) {
	if err := unix.IoctlSetPointerInt(ours, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock the terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(ours, unix.TIOCGPTN)
	if err != nil {
		return -1, fmt.Errorf("name the terminal: %w", err)
	}
	name := "/dev/pts/" + strconv.Itoa(number)
	theirs, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	return theirs, nil
}

// resize sets a terminal's size.
func resize(terminal *os.File, size TermSize) error {
	conn, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	window := unix.Winsize{Row: size.Height, Col: size.Width}
	var set error
	err = conn.Control(func(fd uintptr) { set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &window) })
	return errors.Join(err, set)
}
