"""ftp_work.py ADDRESS PORT FOLDER: an FTP server for everybody."""
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(sys.argv[3], perm="elradfmwMT")
server = FTPServer((sys.argv[1], int(sys.argv[2])), FTPHandler)
print("ready", flush=True)
server.serve_forever()
