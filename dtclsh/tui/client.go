package tui

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	tea "charm.land/bubbletea/v2"

	"understudy/dtclsh/interp"
)

// Config of a text client. LogFile may be left out.
type Config struct {
	In, Out *os.File // a terminal
	Env     []string // TERM, COLORTERM and NO_COLOR say what the terminal can do
	LogFile string   // where ClientLog keeps what is typed; "": nowhere
	// Dial connects to a machine as interp.Config.Dial does; several goroutines call it.
	Dial func(ctx context.Context, address string) (interp.Client, error)
}

// Client is a text client. Answers, Troubles, Progress and Ask are for the interpreter
// that Run is given; they may be called from any goroutine.
type Client struct {
	cfg     Config
	program *tea.Program
	input   *gate
	jobs    chan job
	place   atomic.Pointer[place] // of the current source; nil before it was asked
	moved   [2]chan struct{}      // one for each follower: place is another

	mu     sync.Mutex
	cancel context.CancelFunc // of the running job
	hasty  bool               // Ctrl-C came before the job began
	ctx    context.Context    // of the running job, or of Run
}

// place is where the source's state is asked for.
type place struct{ address, name string }

// New makes a client that shows nothing yet.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg, input: &gate{File: cfg.In}, jobs: make(chan job, 1), moved: [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}, ctx: context.Background()}
	m := &model{client: c, past: &history{}}
	c.program = tea.NewProgram(m, tea.WithInput(c.input), tea.WithOutput(cfg.Out), tea.WithEnvironment(cfg.Env), tea.WithoutSignalHandler())
	return c
}

// Run shows the screen until EXIT, Ctrl-D or the end of ctx.
func (c *Client) Run(ctx context.Context, in *interp.Interp) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	defer context.AfterFunc(ctx, c.leave)()
	var group sync.WaitGroup
	group.Go(func() { c.work(ctx, in) })
	group.Go(func() { c.followStatus(ctx) })
	group.Go(func() { c.followEvents(ctx) })
	_, err := c.program.Run()
	cancel()
	group.Wait()
	if errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// leave ends Run.
func (c *Client) leave() { c.program.Send(leaveMsg{}) }

// gate is the terminal's input. Once it is closed nothing more is read: what bubbletea
// reads while it ends would hold a goroutine of it for ever.
type gate struct {
	*os.File
	closed atomic.Bool
}

func (g *gate) Read(b []byte) (int, error) {
	if g.closed.Load() {
		return 0, io.EOF
	}
	return g.File.Read(b)
}

// Answers takes what commands answer.
func (c *Client) Answers() io.Writer { return &lines{client: c, kind: plainLine} }

// Troubles takes errors and warnings.
func (c *Client) Troubles() io.Writer { return &lines{client: c, kind: troubleLine} }

// Progress shows how far a wait is; "" wipes it.
func (c *Client) Progress(line string) { c.program.Send(progressMsg(line)) }

// maxPart bounds a line that does not end, in bytes.
const maxPart = 64 << 10

// lines cuts what is written into lines of the pane. One goroutine writes.
type lines struct {
	client *Client
	kind   lineKind
	part   string // a line that has not ended yet
}

func (l *lines) Write(b []byte) (int, error) {
	text := l.part + string(b)
	whole, part, found := cutLast(text)
	if len(part) > maxPart {
		whole, part, found = text, "", true
	}
	l.part = part
	if found {
		l.client.program.Send(textMsg{l.kind, strings.Split(whole, "\n")})
	}
	return len(b), nil
}

// cutLast cuts after the last line.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '\n')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// ErrNoAnswer: the person did not answer a question.
var ErrNoAnswer = errors.New("not answered")

// Ask asks the person, at the bottom line. What is typed for a hidden question is not
// shown.
func (c *Client) Ask(question string, hidden bool) (string, error) {
	c.mu.Lock()
	ctx := c.ctx
	c.mu.Unlock()
	reply := make(chan string, 1)
	c.program.Send(askMsg{question, hidden, reply})
	select {
	case s, ok := <-reply:
		if !ok {
			return "", ErrNoAnswer
		}
		return s, nil
	case <-ctx.Done():
		c.program.Send(askMsg{})
		return "", ErrNoAnswer
	}
}
