// Package wire is the protocol between the worker and its Python process: lines of JSON, which it encodes, decodes,
// reads and writes. It knows nothing of the state of the process.
//
// The worker writes tasks ([EncodeTask]), pings ([EncodePing]) and cancellations ([EncodeCancel]). The process writes
// the messages that [Decode] tells apart by their [Kind]; whatever else it writes is output that is not protocol.
package wire
