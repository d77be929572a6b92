"""dds_work.py OWN OTHER: says 200 kB over and over until it has heard as much from OTHER and OTHER has heard it."""
import hashlib
import sys
import time
from dataclasses import dataclass

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import sequence, uint8
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

own, other = sys.argv[1:]


@dataclass
class Piece(IdlStruct, typename="Piece"):
    who: str
    heard: str
    content: sequence[uint8]


participant = DomainParticipant()
qos = Qos(Policy.Reliability.Reliable(duration(seconds=5)), Policy.History.KeepAll)
topic = Topic(participant, "Pieces", Piece, qos=qos)
writer, reader = DataWriter(participant, topic, qos=qos), DataReader(participant, topic, qos=qos)
content = list(hashlib.shake_128(own.encode()).digest(200_000))
wanted = hashlib.shake_128(other.encode()).digest(200_000)
heard, known, until = "nobody", False, time.monotonic() + 50
while time.monotonic() < until and not (heard == other and known):
    writer.write(Piece(own, heard, content))
    for piece in reader.take(20):
        if piece.who == other:
            assert bytes(piece.content) == wanted, "another content"
            heard, known = other, known or piece.heard == own
    time.sleep(0.3)
for _ in range(4):
    writer.write(Piece(own, heard, content))
    time.sleep(0.3)
assert heard == other and known, (heard, known)
print("heard", other)
