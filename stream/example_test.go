package stream_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"understudy/fileop"
	"understudy/internal/access"
	"understudy/stream"
)

// One operation goes from the journal of a source to the receiver of a target.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	dir, err := os.MkdirTemp("", "stream-example-")
	check(err)
	defer os.RemoveAll(dir)

	own, err := access.Open(dir+"/alpha-keys", "alpha")
	check(err)
	keys, err := access.Open(dir+"/beta-keys", "beta")
	check(err)
	check(access.PairUp(own, keys, "", ""))

	source, err := stream.Start(stream.ServerConfig{Name: "alpha", StoreDir: dir + "/alpha"}, log)
	check(err)
	target, err := stream.Start(stream.ServerConfig{Name: "beta", StoreDir: dir + "/beta", Listen: "127.0.0.1:0", Keys: keys}, log)
	check(err)
	receiver, err := target.OpenReceiver(ctx, stream.ReceiverConfig{Source: "alpha", Connection: "accounts", Epoch: 1})
	check(err)
	link, err := stream.Dial(ctx, stream.LinkConfig{Addr: target.Addr().String(), Peer: "beta", Keys: own, Log: log})
	check(err)
	journal, err := source.OpenJournal(ctx, stream.JournalConfig{Connection: "accounts", Epoch: 1})
	check(err)

	ended := make(chan error, 2)
	go func() { ended <- journal.Run(ctx) }()
	go func() {
		cfg := stream.TransmitterConfig{Connection: "accounts", Source: "alpha"}
		ended <- stream.NewTransmitter(journal, link, cfg, log).Run(ctx)
	}()

	_, err = journal.Put(&fileop.Op{Kind: fileop.Unlink, Parent: fileop.ObjID{Ino: 2}, Obj: fileop.ObjID{Ino: 12}, Name: "old.txt"})
	check(err)
	frame, number, err := receiver.Next(ctx)
	check(err)
	var op fileop.Op
	for records := frame.Records(); ; {
		more, err := records.Next(&op)
		check(err)
		if !more {
			break
		}
		fmt.Println("frame", number, "operation", op.Seq, op.Kind, op.Name)
	}
	journal.Confirm(number, frame.Last()) // applied, and on disk
	receiver.Purge(number)

	check(journal.Close(ctx))
	cancel()
	check(<-ended)
	check(<-ended)
	link.Close()
	check(receiver.Close(context.Background()))
	check(target.Close(context.Background()))
	check(source.Close(context.Background()))
	// Output: frame 1 operation 1 unlink old.txt
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
