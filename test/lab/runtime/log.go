package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// maxLine is the longest piece of a line that is written as one, as
	// containerd's default; longer ones are split and marked partial.
	maxLine = 16 << 10
	// maxLog is when a log file is rotated, once: the kubelet's default. A
	// container thus never takes more than twice that.
	maxLog = 10 << 20
)

// rotatedLog is where the log at path goes when it is full.
func rotatedLog(path string) string { return path + ".1" }

// logFile writes a container's output in the format that the kubelet reads:
// "<RFC3339Nano> stdout F text", with P in the place of F for a piece that the
// line goes on after. It may be used concurrently.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int
	line []byte
}

func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	return &logFile{path: path, file: f}, nil
}

// copy writes what comes from r as lines of the stream until r ends. It goes
// on reading when the disk is full, so that the container does not block.
func (l *logFile) copy(stream string, r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		text, err := in.ReadSlice('\n')
		partial := errors.Is(err, bufio.ErrBufferFull)
		if len(text) > 0 {
			l.write(stream, text, partial)
		}
		if err != nil && !partial {
			return // the end of the container's output, however it came
		}
	}
}

func (l *logFile) write(stream string, text []byte, partial bool) {
	tag := "F"
	if partial {
		tag = "P"
	}
	if n := len(text); text[n-1] == '\n' {
		text = text[:n-1]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = time.Now().UTC().AppendFormat(l.line[:0], time.RFC3339Nano)
	l.line = fmt.Appendf(l.line, " %s %s ", stream, tag)
	l.line = append(append(l.line, text...), '\n')
	if l.size+len(l.line) > maxLog {
		l.rotate()
	}
	n, _ := l.file.Write(l.line) // a line that does not fit on the disk is lost, as it must be
	l.size += n
}

// rotate starts a new file; if that fails the old one is used on.
func (l *logFile) rotate() {
	if os.Rename(l.path, rotatedLog(l.path)) != nil {
		return
	}
	next, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return
	}
	_ = l.file.Close() // all of it is written
	l.file, l.size = next, 0
}
